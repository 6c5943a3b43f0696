"""The main job once, shown: user turns in, streamed replies, rows and a trace out."""
