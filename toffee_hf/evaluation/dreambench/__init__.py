"""DreamBench's protocol, for pipelines and ready pictures, and a benchmark of the same shape in the toy world."""
