"""The data set: pieces as dense tensors in versioned stores."""
