"""The build of the distributions from the packages of this repository; not shipped itself."""
