"""Sans-I/O codecs of the protocols spoken: protocol messages in, core.peer Requests out, and back."""
