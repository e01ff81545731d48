"""The image, built and run as an operator would; `make image-test` runs these tests."""
