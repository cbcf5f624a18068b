"""A MONAI Label application for a trained bundle: a server that answers with colour."""
