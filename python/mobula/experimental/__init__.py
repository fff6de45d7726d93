"""What Ray calls experimental, as far as it is there: `tqdm_ray`."""
