#include "io/torch_globals.h"

#include <algorithm>
#include <array>
#include <span>

namespace halftone {
namespace {

struct KnownGlobal {
  std::string_view module;
  std::string_view name;
};

struct KnownDType {
  std::string_view torch;
  std::string_view storage;  // empty: torch.UntypedStorage with the dtype beside it
  std::optional<DType> dtype;
};

constexpr std::array kDTypes{
    KnownDType{"float64", "DoubleStorage", DType::kF64},
    KnownDType{"float32", "FloatStorage", DType::kF32},
    KnownDType{"float16", "HalfStorage", DType::kF16},
    KnownDType{"bfloat16", "BFloat16Storage", DType::kBF16},
    KnownDType{"float8_e4m3fn", "", DType::kF8E4M3},
    KnownDType{"float8_e5m2", "", DType::kF8E5M2},
    KnownDType{"int64", "LongStorage", DType::kI64},
    KnownDType{"int32", "IntStorage", DType::kI32},
    KnownDType{"int16", "ShortStorage", DType::kI16},
    KnownDType{"int8", "CharStorage", DType::kI8},
    KnownDType{"uint8", "ByteStorage", DType::kU8},
    KnownDType{"bool", "BoolStorage", DType::kBool},
    // Those that may be named, and are refused where they would have to be read.
    KnownDType{"float8_e4m3fnuz", "", {}},
    KnownDType{"float8_e5m2fnuz", "", {}},
    KnownDType{"float8_e8m0fnu", "", {}},
    KnownDType{"float4_e2m1fn_x2", "", {}},
    KnownDType{"uint16", "", {}},
    KnownDType{"uint32", "", {}},
    KnownDType{"uint64", "", {}},
    KnownDType{"complex32", "ComplexHalfStorage", {}},
    KnownDType{"complex64", "ComplexFloatStorage", {}},
    KnownDType{"complex128", "ComplexDoubleStorage", {}},
    KnownDType{"quint8", "QUInt8Storage", {}},
    KnownDType{"qint8", "QInt8Storage", {}},
    KnownDType{"qint32", "QInt32Storage", {}},
};

constexpr std::string_view kMetadata = "torch.distributed.checkpoint.metadata";
constexpr std::string_view kFileSystem = "torch.distributed.checkpoint.filesystem";
constexpr std::string_view kPlanner = "torch.distributed.checkpoint.planner";
// Where TensorProperties was until PyTorch 2.3.
constexpr std::string_view kOldProperties = "torch.distributed._shard.sharded_tensor.metadata";
constexpr std::string_view kMegatron = "megatron.core.dist_checkpointing.strategies.torch";

constexpr std::array kPlainClasses{
    KnownGlobal{"collections", "OrderedDict"},
    KnownGlobal{"collections", "defaultdict"},
    KnownGlobal{"builtins", "set"},
    KnownGlobal{"builtins", "frozenset"},
    KnownGlobal{"builtins", "dict"},
    KnownGlobal{"builtins", "list"},
    KnownGlobal{"builtins", "tuple"},
    KnownGlobal{"builtins", "slice"},
    KnownGlobal{"builtins", "complex"},
    KnownGlobal{"builtins", "bytearray"},
    KnownGlobal{"__builtin__", "set"},
    KnownGlobal{"__builtin__", "frozenset"},
    KnownGlobal{"__builtin__", "dict"},
    KnownGlobal{"__builtin__", "list"},
    KnownGlobal{"__builtin__", "slice"},
    KnownGlobal{"__builtin__", "bytearray"},
    KnownGlobal{"torch", "Size"},
    KnownGlobal{"torch", "device"},
    KnownGlobal{"torch.serialization", "_get_layout"},
    KnownGlobal{"pathlib", "Path"},
    KnownGlobal{"pathlib", "PosixPath"},
    KnownGlobal{"pathlib", "PurePosixPath"},
    KnownGlobal{"pathlib", "WindowsPath"},
    KnownGlobal{"pathlib._local", "PosixPath"},
    KnownGlobal{"pathlib._local", "WindowsPath"},
};

constexpr std::array kMetadataClasses{
    KnownGlobal{kMetadata, "Metadata"},
    KnownGlobal{kMetadata, "TensorStorageMetadata"},
    KnownGlobal{kMetadata, "TensorProperties"},
    KnownGlobal{kMetadata, "ChunkStorageMetadata"},
    KnownGlobal{kMetadata, "BytesStorageMetadata"},
    KnownGlobal{kMetadata, "MetadataIndex"},
    KnownGlobal{kMetadata, "StorageMeta"},
    KnownGlobal{kMetadata, "_MEM_FORMAT_ENCODING"},
    KnownGlobal{kOldProperties, "TensorProperties"},
    KnownGlobal{kOldProperties, "MEM_FORMAT_ENCODING"},
    KnownGlobal{kFileSystem, "_StorageInfo"},
    KnownGlobal{kFileSystem, "_StoragePrefix"},
    KnownGlobal{kFileSystem, "SerializationFormat"},
    KnownGlobal{kPlanner, "SavePlan"},
    KnownGlobal{kPlanner, "WriteItem"},
    KnownGlobal{kPlanner, "WriteItemType"},
    KnownGlobal{kPlanner, "TensorWriteData"},
    KnownGlobal{kMegatron, "MCoreMetadata"},
    KnownGlobal{kMegatron, "MCoreSavePlan"},
};

constexpr std::array kTensorFunctions{
    KnownGlobal{"torch._utils", "_rebuild_tensor_v2"},
    KnownGlobal{"torch._utils", "_rebuild_tensor_v3"},
    KnownGlobal{"torch._utils", "_rebuild_parameter"},
    KnownGlobal{"collections", "OrderedDict"},
};

constexpr std::array kCommonClasses{
    KnownGlobal{"argparse", "Namespace"},
    KnownGlobal{"types", "SimpleNamespace"},
    KnownGlobal{"signal", "Signals"},
    KnownGlobal{"datetime", "timedelta"},
    KnownGlobal{"datetime", "datetime"},
    KnownGlobal{"_codecs", "encode"},
    KnownGlobal{"numpy", "dtype"},
    KnownGlobal{"numpy", "ndarray"},
    KnownGlobal{"numpy.core.multiarray", "_reconstruct"},
    KnownGlobal{"numpy.core.multiarray", "scalar"},
    KnownGlobal{"numpy._core.multiarray", "_reconstruct"},
    KnownGlobal{"numpy._core.multiarray", "scalar"},
};

// Classes and functions of the trainer that its arguments and its state name (enumerations,
// activation and initialization functions): their names are kept and mean nothing.
constexpr std::array<std::string_view, 7> kCommonModules{
    "megatron.",         "nemo.",         "transformer_engine.", "torch.nn.functional",
    "torch.nn.modules.", "torch.nn.init", "torch._C._nn"};

template <size_t N>
bool holds(const std::array<KnownGlobal, N>& list, std::string_view module, std::string_view name) {
  return std::any_of(list.begin(), list.end(), [&](const KnownGlobal& known) {
    return known.module == module && known.name == name;
  });
}

// Names that stand for values: dtypes, layouts, storage classes.
bool is_torch_name(std::string_view module, std::string_view name) {
  if (module == "torch.storage") return name == "UntypedStorage" || name == "TypedStorage";
  if (module != "torch") return false;
  for (const std::string_view other :
       {"strided", "contiguous_format", "channels_last", "preserve_format", "UntypedStorage"}) {
    if (name == other) return true;
  }
  return std::any_of(kDTypes.begin(), kDTypes.end(), [&](const KnownDType& known) {
    return name == known.torch || (!known.storage.empty() && name == known.storage);
  });
}

GlobalUse use_in_metadata(std::string_view module, std::string_view name) {
  if (is_torch_name(module, name)) return GlobalUse::kName;
  const bool known = holds(kPlainClasses, module, name) || holds(kMetadataClasses, module, name);
  return known ? GlobalUse::kCallable : GlobalUse::kRefused;
}

GlobalUse use_in_tensor(std::string_view module, std::string_view name) {
  if (is_torch_name(module, name)) return GlobalUse::kName;
  return holds(kTensorFunctions, module, name) ? GlobalUse::kCallable : GlobalUse::kRefused;
}

GlobalUse use_in_common(std::string_view module, std::string_view name) {
  if (is_torch_name(module, name)) return GlobalUse::kName;
  const bool known = holds(kPlainClasses, module, name) || holds(kTensorFunctions, module, name) ||
                     holds(kCommonClasses, module, name) ||
                     std::any_of(kCommonModules.begin(), kCommonModules.end(),
                                 [&](std::string_view start) { return module.starts_with(start); });
  return known ? GlobalUse::kCallable : GlobalUse::kRefused;
}

}  // namespace

PickleRules metadata_rules() {
  PickleRules rules;
  rules.use_of = &use_in_metadata;
  return rules;
}

PickleRules tensor_rules() {
  PickleRules rules;
  rules.use_of = &use_in_tensor;
  rules.persistent = true;
  rules.max_values = 10'000;
  return rules;
}

PickleRules common_rules() {
  PickleRules rules;
  rules.use_of = &use_in_common;
  rules.persistent = true;
  return rules;
}

std::optional<DType> dtype_of_torch(std::string_view module, std::string_view name) {
  if (module != "torch") return std::nullopt;
  for (const KnownDType& known : kDTypes) {
    if (known.torch == name) return known.dtype;
  }
  return std::nullopt;
}

std::optional<DType> dtype_of_storage(std::string_view module, std::string_view name) {
  if (module != "torch" && module != "torch.storage") return std::nullopt;
  for (const KnownDType& known : kDTypes) {
    if (!known.storage.empty() && known.storage == name) return known.dtype;
  }
  return std::nullopt;
}

}  // namespace halftone
