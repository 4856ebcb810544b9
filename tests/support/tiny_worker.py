"""The flags of a re-sharding worker that serves a tiny model on two CPU ranks."""

FLAGS = (
    "-tp=2",
    "--dtype=float32",
    "--reshard=always",
    "--enforce-eager",
    "--max-model-len=2048",
    "--block-size=32",
    "--generation-config=vllm",
    "--kv-cache-memory-bytes=268435456",
)
