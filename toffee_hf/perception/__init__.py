"""What is seen in a picture: subject masks, depth, patch features, similarity of pictures and words."""
