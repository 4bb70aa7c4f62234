"""Where images come from: folders of files, CIFAR-10 batches and the emoji drawings; each is an `ImageSource`."""
