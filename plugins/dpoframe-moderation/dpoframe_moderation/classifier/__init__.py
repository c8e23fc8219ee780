"""The classifying moderator: the modality `text_classifier`."""
