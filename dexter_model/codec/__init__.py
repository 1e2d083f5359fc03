"""Performance codecs: a performance as numbers per score note, and back."""
