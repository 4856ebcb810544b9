"""Every flag of ``vllm serve``, and whether it works with two engines on the same devices.

One table decides. A contract test compares it with vLLM's own parser, and a flag that is not in the
table is refused, so that an upgrade of vLLM cannot add a flag that silently breaks re-sharding.
The check reads parsed values, so that the spelling of a flag does not matter: with dashes or
underscores, shortened, ``--flag=value``, in dotted form or in the file of ``--config``.
"""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from seesaw_core.errors import UnsupportedError
from seesaw_worker.upstream.flag_hints import as_written

_NEVER = "use --reshard never"
_RESIDENT = "use --weights resident"
_REPLICAS = "run one worker per replica"


class Scope(StrEnum):
    """Where a flag is refused if its value is not vLLM's default, in words for the message."""

    NOWHERE = "is taken"
    SHARED_WEIGHTS = "does not work with --weights=shared"
    RESHARDING = "does not work with re-sharding"
    EVERYWHERE = "is not available"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Flags that are refused for the same reason, and what to do instead.

    ``allowed`` are values that are harmless, like vLLM's default.
    """

    refused: Scope
    why: str
    flags: str
    way_out: str = _NEVER
    allowed: tuple[object, ...] = ()


KINDS = (
    Kind(
        refused=Scope.NOWHERE,
        why="they concern the server in front of both engines",
        flags="""
        allow_credentials allowed_headers allowed_methods allowed_origins
        anthropic_disabled_thinking_effort api_key chat_template chat_template_content_format
        cohere_format cohere_is_reasoning_model config default_chat_template_kwargs
        disable_access_log_for_endpoints disable_fastapi_docs disable_log_stats
        disable_uvicorn_access_log enable_auto_tool_choice enable_flash_late_interaction
        enable_force_include_usage enable_log_deltas enable_log_outputs enable_log_requests
        enable_offline_docs enable_per_request_metrics enable_prompt_tokens_details
        enable_request_id_headers enable_scale_out enable_server_load_tracking enable_ssl_refresh
        enable_tokenizer_info_endpoint exclude_tools_when_tool_choice_none
        fail_on_environ_validation fingerprint_mode fingerprint_value h11_max_header_count
        h11_max_incomplete_event_size host log_config_file log_error_stack log_level logging_config
        max_log_len middleware model_tag port response_role return_tokens_as_token_ids root_path
        sse_keep_alive_interval ssl_ca_certs ssl_certfile ssl_cert_reqs ssl_ciphers ssl_keyfile
        tokens_only tool_call_parser tool_parser_plugin tool_server tool_strict_level
        trust_request_chat_template trust_request_mm_kwargs uds uvicorn_log_level
        custom_histogram_buckets generation_config override_generation_config
        per_request_spec_decode_metrics renderer_num_workers show_hidden_metrics_for_version
        stream_interval max_num_queued_reqs max_num_queued_tokens
        """,
    ),
    Kind(
        refused=Scope.NOWHERE,
        why="both engines use them in the same way",
        flags="""
        model runner convert tokenizer tokenizer_mode trust_remote_code dtype seed hf_config_path
        hf_token hf_overrides model_class_overrides model_impl config_format revision code_revision
        tokenizer_revision max_model_len quantization quantization_config
        allow_deprecated_quantization disable_sliding_window disable_cascade_attn
        skip_tokenizer_init served_model_name pooler_config logits_processors io_processor_plugin
        max_logprobs logprobs_mode use_fp64_gumbel use_tqdm_on_load attention_backend
        attention_config block_size gpu_memory_utilization kv_cache_dtype enable_prefix_caching
        prefix_caching_hash_algo disable_custom_all_reduce enable_batch_sharded_sampling
        distributed_timeout_seconds cpu_distributed_timeout_seconds pipeline_parallel_size
        tensor_parallel_size device_ids max_num_batched_tokens max_num_scheduled_tokens max_num_seqs
        long_prefill_token_threshold long_prefill_token_threshold_adaptive scheduling_policy
        enable_chunked_prefill scheduler_reserve_full_isl prefill_schedule_interval watermark
        async_scheduling reasoning_parser reasoning_parser_plugin reasoning_config
        structured_outputs_config additional_config optimization_level performance_mode
        kernel_config ir_op_priority enable_flashinfer_autotune moe_backend linear_backend
        otlp_traces_endpoint collect_detailed_traces jit_monitor_mode jit_monitor_verbose
        kv_cache_metrics kv_cache_metrics_sample enable_mfu_metrics enable_layerwise_nvtx_tracing
        enable_logging_iteration_details profiler_config
        """,
    ),
    Kind(
        refused=Scope.NOWHERE,
        why="the decode engine alone takes them: it compiles, has the large KV pool, and prefills "
        "in place what has media, embeddings or an adapter",
        flags="""
        enforce_eager compilation_config cudagraph_capture_sizes max_cudagraph_capture_size
        cudagraph_metrics kv_cache_memory_bytes num_gpu_blocks_override enable_prompt_embeds
        enable_lora lora_modules max_loras max_lora_rank lora_dtype enable_tower_connector_lora
        max_cpu_loras fully_sharded_loras lora_target_modules default_mm_loras
        specialize_active_lora enable_mixed_moe_lora_format enable_moe_shared_loras
        max_lora_cls_labels allowed_local_media_path allowed_media_domains language_model_only
        limit_mm_per_prompt enable_mm_embeds media_io_kwargs mm_processor_kwargs
        mm_processor_cache_gb mm_hasher_algorithm mm_shm_cache_max_object_size_mb mm_encoder_only
        mm_encoder_tp_mode mm_encoder_attn_backend mm_encoder_attn_dtype mm_encoder_fp8_scale_path
        mm_encoder_fp8_scale_save_path mm_encoder_fp8_scale_save_margin interleave_mm_strings
        skip_mm_profiling video_pruning_rate video_pruning_method mm_device_do_normalize
        disable_chunked_mm_input ec_manager_config watermark_config
        """,
    ),
    Kind(
        refused=Scope.NOWHERE,
        why="they concern models that re-sharding refuses anyway",
        flags="""
        gdn_prefill_backend kda_prefill_backend kda_decode_backend mamba_backend
        mamba_ssu_algorithm enable_mamba_cache_stochastic_rounding mamba_cache_philox_rounds
        mamba_cache_dtype mamba_ssm_cache_dtype mamba_block_size mamba_cache_mode
        enable_mamba_shared_prefix_checkpoint replayssm_buffer_len use_replayssm
        sparse_indexer_topk_backend
        """,
    ),
    Kind(
        refused=Scope.RESHARDING,
        why="it would replace the connector that carries KV from prefill to decode",
        flags="kv_transfer_config kv_offloading_size kv_offloading_backend ec_transfer_config",
    ),
    Kind(
        refused=Scope.RESHARDING,
        why="its events would report the KV of only one engine",
        flags="kv_events_config",
    ),
    Kind(
        refused=Scope.RESHARDING,
        why="it would replace a class of re-sharding's own",
        flags="scheduler_cls worker_cls worker_extension_cls",
    ),
    Kind(
        refused=Scope.RESHARDING,
        why="it moves weights or KV that both engines expect in their place",
        flags="""
        offload_backend cpu_offload_gb cpu_offload_params offload_group_size offload_num_in_group
        offload_prefetch_step offload_params enable_cumem_allocator enable_sleep_mode
        sleep_mode_offload_cudagraph sleep_preserve_parameter_names enable_nccl_comm_suspend
        weight_transfer_config engram_config
        """,
    ),
    Kind(
        refused=Scope.RESHARDING,
        why="re-sharding cannot carry its state from prefill to decode",
        flags="""
        speculative_config spec_method spec_model spec_tokens diffusion_config
        enable_return_routed_experts aux_output_config return_sampling_mask enable_trace_replay
        kv_sharing_fast_prefill kv_cache_dtype_skip_layers prefix_cache_retention_interval
        prefix_match_unit swa_bounded_replay
        """,
    ),
    Kind(
        refused=Scope.RESHARDING,
        why="it shares memory between the server and the ranks of one engine",
        flags="mm_tensor_ipc mm_processor_device mm_ipc_gpu_memory_gb enable_shm_tensor_arena",
    ),
    Kind(
        refused=Scope.RESHARDING,
        why="it shares memory between the server and the ranks of one engine",
        flags="mm_processor_cache_type",
        way_out="give --mm-processor-cache-type=lru",
    ),
    Kind(
        refused=Scope.RESHARDING,
        why="re-sharding changes only tensor and pipeline parallelism",
        flags="""
        enable_expert_parallel enable_ep_weight_filter all2all_backend enable_eplb eplb_config
        expert_placement_strategy enable_elastic_ep elastic_ep_max_dp_size enable_dbo ubatch_size
        dbo_decode_token_threshold dbo_prefill_token_threshold enable_hc_sp
        decode_context_parallel_size prefill_context_parallel_size dcp_comm_backend dcp_q_replicate
        dcp_kv_cache_interleave_size cp_kv_cache_interleave_size
        """,
    ),
    Kind(
        refused=Scope.RESHARDING,
        why="the paged KV of both engines has one form",
        flags="disable_hybrid_kv_cache_manager",
        way_out="drop --no-disable-hybrid-kv-cache-manager",
        allowed=(True,),
    ),
    Kind(
        refused=Scope.RESHARDING,
        why="the number of prompts in the decode engine follows --max-num-seqs",
        flags="max_num_active_seqs",
        way_out="give --max-num-seqs instead",
    ),
    Kind(
        refused=Scope.RESHARDING,
        why="both engines' ranks are placed on the same devices",
        flags="""
        numa_bind numa_bind_nodes numa_bind_cpus max_parallel_loading_workers
        """,
        way_out="choose devices and cores for the whole worker (CUDA_VISIBLE_DEVICES, numactl)",
    ),
    Kind(
        refused=Scope.RESHARDING,
        why="both engines run below one server on one node",
        flags="""
        master_addr master_port nnodes node_rank data_parallel_size data_parallel_rank
        data_parallel_start_rank data_parallel_size_local data_parallel_address
        data_parallel_rpc_port data_parallel_backend data_parallel_hybrid_lb
        data_parallel_external_lb data_parallel_multi_port_external_lb dp_sync_interval
        disable_nccl_for_dp_synchronization enable_fault_tolerance fault_tolerance_config
        ray_workers_use_nsight aggregate_engine_logging
        """,
        way_out=_REPLICAS,
    ),
    Kind(
        refused=Scope.RESHARDING,
        why="both engines run below one server on one node",
        flags="distributed_executor_backend",
        way_out=_REPLICAS,
        allowed=("mp",),
    ),
    Kind(
        refused=Scope.SHARED_WEIGHTS,
        why="the one host copy that both engines share is the mapped checkpoint itself",
        flags="load_format",
        way_out=_RESIDENT,
        allowed=("safetensors", "hf"),
    ),
    Kind(
        refused=Scope.SHARED_WEIGHTS,
        why="the one host copy that both engines share is the mapped checkpoint itself",
        flags="""
        model_loader_extra_config safetensors_load_strategy safetensors_prefetch_num_threads
        safetensors_prefetch_block_size ignore_patterns pt_load_map_location download_dir
        """,
        way_out=_RESIDENT,
    ),
    Kind(
        refused=Scope.EVERYWHERE,
        why="a worker is one server on one node",
        flags="""
        headless grpc grpc_port data_parallel_supervisor_port dp_supervisor_probe_interval_s
        dp_supervisor_probe_timeout_s dp_supervisor_probe_failure_threshold
        """,
        way_out="scale by running more workers",
    ),
    Kind(
        refused=Scope.EVERYWHERE,
        why="a worker is one server on one node",
        flags="api_server_count",
        way_out="scale by running more workers",
        allowed=(1,),
    ),
    Kind(
        refused=Scope.EVERYWHERE,
        why="a worker has its own flag for draining",
        flags="shutdown_timeout",
        way_out="give --drain-timeout-s",
    ),
)

BY_FLAG: Mapping[str, Kind] = {name: kind for kind in KINDS for name in kind.flags.split()}

_UNKNOWN = Kind(
    refused=Scope.RESHARDING, why="this release does not know its effect on re-sharding", flags=""
)


def refuse_vllm_flags(
    args: Namespace, defaults: Mapping[str, object], *, reshards: bool, shares_weights: bool
) -> None:
    """Refuse flags that such a worker does not support.

    ``defaults`` holds the default values of vLLM's flags. Raises: UnsupportedError.
    """
    refused = {Scope.EVERYWHERE}
    if reshards:
        refused.add(Scope.RESHARDING)
        if shares_weights:
            refused.add(Scope.SHARED_WEIGHTS)
    for name, default in defaults.items():
        kind, value = BY_FLAG.get(name, _UNKNOWN), getattr(args, name)
        if kind.refused in refused and value != default and value not in kind.allowed:
            raise UnsupportedError(
                f"{as_written(name, value)} {kind.refused}: {kind.why}; drop it, or {kind.way_out}"
            )
