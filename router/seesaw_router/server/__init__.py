"""The router's HTTP server: it takes requests, forwards them and passes answers back."""
