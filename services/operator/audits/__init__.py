"""Is everything recorded, once and as the provider has it? Compared, mended; strays found."""
