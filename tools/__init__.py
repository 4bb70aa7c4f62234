"""What the package does not carry: benchmarks, and the making of the models that ship."""
