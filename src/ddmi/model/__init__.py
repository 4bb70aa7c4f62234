"""The method, in the paper's order: encoders, posterior, decoder, read-out, denoiser, diffusion and sampling."""
