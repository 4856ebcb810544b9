"""LiteLLM, as an application uses it: what it makes of the server's answers."""

from typing import Any

import litellm

from conformance.clients import cases
from conformance.clients.cases import (
    FORMAT,
    LIMIT,
    LONG,
    MESSAGES,
    MODEL,
    NAMED,
    TEXT,
    TOO_LONG,
    TOOL,
)

url, key = cases.arguments()
litellm.suppress_debug_info = True
ours: dict[str, Any] = {
    "api_base": url,
    "api_key": key,
    "num_retries": cases.num_retries(),
    "max_retries": 0,
}


def chat(provider: str = "hosted_vllm", **more: Any) -> Any:
    asked = {"model": f"{provider}/{MODEL}", "messages": MESSAGES} | ours | LIMIT
    return litellm.completion(**(asked | more))


def streamed() -> str:
    chunks = chat(stream=True, stream_options={"include_usage": True})
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def tool() -> Any:
    (call,) = chat(tools=[TOOL], tool_choice=NAMED, **LONG).choices[0].message.tool_calls
    return [call.function.name, call.function.arguments]


cases.report(
    {
        "chat": lambda: chat().choices[0].message.content,
        "chat-as-openai": lambda: chat("openai").choices[0].message.content,
        "usage": lambda: chat().usage.total_tokens,
        "streamed": streamed,
        "structured": lambda: chat(response_format=FORMAT, **LONG).choices[0].message.content,
        "tool": tool,
        "completion": lambda: (
            litellm.text_completion(
                model=f"text-completion-openai/{MODEL}", prompt=TEXT, **ours, **LIMIT
            )
            .choices[0]
            .text
        ),
        "response": lambda: (
            litellm.responses(
                model=f"openai/{MODEL}", input=TEXT, max_output_tokens=8, temperature=0, **ours
            )
            .output[0]
            .content[0]
            .text
        ),
        "embeddings": lambda: litellm.embedding(model=f"openai/{MODEL}", input=[TEXT], **ours),
        "unknown-model": lambda: chat(model="hosted_vllm/other"),
        "wrong-field": lambda: chat(temperature=-1),
        "too-long": lambda: chat(messages=TOO_LONG),
        "wrong-key": lambda: chat(api_key="wrong"),
    }
)
