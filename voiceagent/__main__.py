"""`python -m voiceagent` is `voiceagent`."""

from voiceagent.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
