"""The router's HTTP server: what clients send, what is passed on, and how answers come back."""
