"""The MONAI Deploy application: a CT series in, a stained RGB series of the same study out."""
