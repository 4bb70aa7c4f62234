"""Numbers that evaluate samples; each says its units, and none needs more than tensors.

`pixels.py` PSNR and SSIM of pairs; `sliced.py` sliced Wasserstein distance of two sets of images;
`neighbours.py` nearest training items and memorisation; `spectra.py` frequency content of an image or basis field;
`distributions.py` Fréchet and kernel distances, precision and recall of two sets of features;
`points.py` Chamfer and earth mover's distances, MMD, coverage and 1-NN accuracy of sets of clouds;
`volumes.py` IoU, F-score, normals and mutual difference of shapes.
"""
