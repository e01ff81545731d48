"""A day's mixed load in minutes, under which nothing that the server holds may grow for ever."""
