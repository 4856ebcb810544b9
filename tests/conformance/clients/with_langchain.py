"""LangChain's ChatOpenAI and OpenAI: what they make of the server's answers."""

from typing import Any

from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

from conformance.clients import cases
from conformance.clients.cases import LONG, MODEL, SCHEMA, TEXT, TOO_LONG

url, key = cases.arguments()
ours: dict[str, Any] = {"base_url": url, "api_key": key, "max_retries": cases.num_retries()}


def chat(**more: Any) -> Any:
    return ChatOpenAI(**({"model": MODEL, "temperature": 0, "max_tokens": 8} | ours | more))


def usage() -> Any:
    chunks = list(chat(stream_usage=True).stream(TEXT))
    return [c.usage_metadata["total_tokens"] for c in chunks if c.usage_metadata]


def structured() -> Any:
    person = {"title": "person", "description": "A person."} | SCHEMA
    return chat(**LONG).with_structured_output(person, method="json_schema").invoke(TEXT)


def tool() -> Any:
    greet = {"type": "function", "function": {"name": "greet", "parameters": SCHEMA}}
    answer = chat(**LONG).bind_tools([greet], tool_choice="greet").invoke(TEXT)
    return [[call["name"], call["args"]] for call in answer.tool_calls]


def completion() -> Any:
    return OpenAI(model=MODEL, temperature=0, max_tokens=8, **ours).invoke(TEXT)


def embeddings() -> Any:
    return OpenAIEmbeddings(model=MODEL, check_embedding_ctx_length=False, **ours).embed_query(TEXT)


cases.report(
    {
        "chat": lambda: chat().invoke(TEXT).content,
        "streamed": lambda: "".join(c.content for c in chat().stream(TEXT)),
        "usage": usage,
        "batch": lambda: [m.content for m in chat().batch([TEXT, "Once upon a time"])],
        "structured": structured,
        "tool": tool,
        "completion": completion,
        "response": lambda: chat(use_responses_api=True).invoke(TEXT).text,
        "embeddings": embeddings,
        "unknown-model": lambda: chat(model="other").invoke(TEXT),
        "wrong-field": lambda: chat(temperature=-1).invoke(TEXT),
        "too-long": lambda: chat().invoke(TOO_LONG[0]["content"]),
        "wrong-key": lambda: chat(api_key="wrong").invoke(TEXT),
    }
)
