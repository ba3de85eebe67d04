"""Networks: pure ``torch.nn.Module`` code. Knows neither Lightning, nor recipes, nor files."""
