"""How an audio file is read: by its content, and for as long as it really is."""
