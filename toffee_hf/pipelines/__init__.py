"""Diffusers pipelines of Toffee, one self-contained file each: a file is exported verbatim with its repository."""
