"""The commands of the command line, a module each; `program` says what they are called."""
