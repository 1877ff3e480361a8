"""Model classes of Toffee, one self-contained file each: a file is exported verbatim with the weights it describes."""
