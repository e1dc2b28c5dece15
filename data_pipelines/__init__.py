"""Host side: from video files to a TFDS dataset of face clips, and from the dataset to batches. Never imports facedyn."""
