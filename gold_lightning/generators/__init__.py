"""Engines that write samples. Importing them loads no optional package: each imports its own on first use."""

from gold_lightning.generators.base import Completion, Generator, Request, ScriptedGenerator
from gold_lightning.generators.embedded import EmbeddedGenerator
from gold_lightning.generators.openai.generator import OpenAIGenerator
from gold_lightning.generators.openvino import OpenVINOGenerator
from gold_lightning.generators.transformers import TransformersGenerator
from gold_lightning.generators.vllm import VLLMGenerator

__all__ = [
    "Completion",
    "EmbeddedGenerator",
    "Generator",
    "OpenAIGenerator",
    "OpenVINOGenerator",
    "Request",
    "ScriptedGenerator",
    "TransformersGenerator",
    "VLLMGenerator",
]
