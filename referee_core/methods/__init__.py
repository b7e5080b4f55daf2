"""The methods, one module a paper."""
