"""Image and label space: pixel pipelines, mixing, soft labels. Knows neither Lightning nor recipes."""
