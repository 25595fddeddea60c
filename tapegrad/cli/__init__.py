"""The commands of `python -m tapegrad`, a module each: its `main()` prints, and returns an exit status."""
