"""Music and models of the batch platform: pure Python, numpy and torch; imports neither prefect nor ray."""
