"""Images as they come from cameras and disks: decoded, resized, scaled as the model wants them."""
