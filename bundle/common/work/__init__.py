"""Work in pieces that are each done once: in this process, or shared out by Dask."""
