"""Sound as bytes: levels, G.711, fades, streaming resampling. The only numeric code outside engines."""
