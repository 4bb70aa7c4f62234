"""Network parts that know no domain: convolution blocks, attention, embeddings."""
