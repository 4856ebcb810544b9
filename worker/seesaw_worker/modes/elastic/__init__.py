"""The elastic mode: one engine over instances that form groups anew for every iteration."""
