"""The official OpenAI client: what it makes of the server's answers."""

from typing import Any

from openai import OpenAI

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
client: Any = OpenAI(base_url=url, api_key=key, max_retries=cases.num_retries(), timeout=60)
stranger: Any = OpenAI(base_url=url, api_key="wrong", max_retries=0, timeout=60)


def chat(**more: Any) -> Any:
    return client.chat.completions.create(**({"model": MODEL, "messages": MESSAGES} | LIMIT | more))


def streamed() -> str:
    chunks = chat(stream=True, stream_options={"include_usage": True})
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def streamed_by_helper() -> Any:
    asked = {"model": MODEL, "messages": MESSAGES} | LIMIT
    with client.chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        return stream.get_final_completion().choices[0].message.content


def tool() -> Any:
    answer = chat(tools=[TOOL], tool_choice=NAMED, **LONG)
    (call,) = answer.choices[0].message.tool_calls
    return [call.function.name, call.function.arguments, answer.choices[0].finish_reason]


def response(**more: Any) -> Any:
    asked = {"model": MODEL, "input": TEXT, "max_output_tokens": 8, "temperature": 0}
    return client.responses.create(**(asked | more))


def response_read_back() -> bool:
    made = response(store=True)
    return bool(client.responses.retrieve(made.id).output_text == made.output_text)


def response_streamed() -> str:
    events = response(stream=True)
    return "".join(e.delta for e in events if e.type == "response.output_text.delta")


cases.report(
    {
        "models": lambda: [m.id for m in client.models.list().data],
        "model-retrieved": lambda: client.models.retrieve(MODEL).id,
        "chat": lambda: chat().choices[0].message.content,
        "usage": lambda: chat().usage.total_tokens,
        "streamed": streamed,
        "streamed-by-helper": streamed_by_helper,
        "n": lambda: [c.message.content for c in chat(n=2, seed=1, temperature=1).choices],
        "logprobs": lambda: len(chat(logprobs=True, top_logprobs=2).choices[0].logprobs.content),
        "structured": lambda: chat(response_format=FORMAT, **LONG).choices[0].message.content,
        "tool": tool,
        "completion": lambda: (
            client.completions.create(model=MODEL, prompt=TEXT, **LIMIT).choices[0].text
        ),
        "response": lambda: response().output_text,
        "response-streamed": response_streamed,
        "response-read-back": response_read_back,
        "embeddings": lambda: client.embeddings.create(model=MODEL, input=TEXT).data,
        "unknown-model": lambda: chat(model="other"),
        "wrong-field": lambda: chat(temperature=-1),
        "too-long": lambda: chat(messages=TOO_LONG),
        "no-messages": lambda: chat(messages=[]),
        "wrong-key": lambda: stranger.chat.completions.create(model=MODEL, messages=MESSAGES),
    }
)
