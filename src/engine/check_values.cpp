#include "engine/check_values.h"

#include <ATen/ATen.h>

#include <array>
#include <cmath>

#include "core/log.h"
#include "export/stored_names.h"
#include "formats/tensor_bridge.h"
#include "kernels/amax.h"

namespace halftone {
namespace {

constexpr uint8_t kSign = 0x80;
constexpr uint8_t kNanE4M3 = 0x7f;
constexpr uint8_t kNanE8M0 = 0xff;

enum Fault : uint8_t { kNan, kInfinite, kNegative, kZero, kFaults };
constexpr std::array<const char*, kFaults> kRules{"nan-scale", "infinite-scale", "negative-scale",
                                                  "zero-scale"};

struct Faults {
  std::array<int64_t, kFaults> count{};
  std::array<int64_t, kFaults> first{};

  void add(Fault fault, int64_t position) {
    if (count[fault]++ == 0) first[fault] = position;
  }
};

Faults faults_of_bytes(const uint8_t* bytes, int64_t count, ScaleKind kind) {
  Faults faults;
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t byte = bytes[i];
    if (kind == ScaleKind::kE8M0) {
      if (byte == kNanE8M0) faults.add(kNan, i);
    } else if ((byte & ~kSign) == kNanE4M3) {
      faults.add(kNan, i);
    } else if ((byte & ~kSign) == 0) {
      faults.add(kZero, i);
    } else if ((byte & kSign) != 0) {
      faults.add(kNegative, i);
    }
  }
  return faults;
}

Faults faults_of_floats(const float* values, int64_t count) {
  Faults faults;
  for (int64_t i = 0; i < count; ++i) {
    const float value = values[i];
    if (std::isnan(value)) {
      faults.add(kNan, i);
    } else if (std::isinf(value)) {
      faults.add(kInfinite, i);
    } else if (value < 0.0f) {
      faults.add(kNegative, i);
    } else if (value == 0.0f) {
      faults.add(kZero, i);
    }
  }
  return faults;
}

}  // namespace

std::optional<Finding> check_scales(const at::Tensor& scales, ScaleKind kind) {
  Faults faults;
  if (kind == ScaleKind::kFloat) {
    const at::Tensor wide = scales.to(at::kFloat).contiguous();
    faults = faults_of_floats(wide.const_data_ptr<float>(), wide.numel());
  } else {
    const at::Tensor bytes = scales.contiguous();
    faults =
        faults_of_bytes(static_cast<const uint8_t*>(bytes.const_data_ptr()), bytes.numel(), kind);
  }
  for (uint8_t fault = 0; fault < kFaults; ++fault) {
    if (faults.count[fault] == 0) continue;
    return Finding{kRules[fault],
                   {},
                   {},
                   "finite scales of more than 0",
                   concat(faults.count[fault], " of ", scales.numel(), ", the first at ",
                          faults.first[fault])};
  }
  return std::nullopt;
}

std::optional<Finding> check_finite(const at::Tensor& values, DType stored) {
  if (stored == DType::kF8E4M3) {
    const at::Tensor bytes = values.contiguous();
    const auto* data = static_cast<const uint8_t*>(bytes.const_data_ptr());
    int64_t bad = 0;
    for (int64_t i = 0; i < bytes.numel(); ++i) bad += (data[i] & ~kSign) == kNanE4M3 ? 1 : 0;
    if (bad == 0) return std::nullopt;
    return Finding{"not-finite", {}, {}, "numbers", concat(bad, " codes of NaN")};
  }
  if (!is_full_precision(stored) || values.numel() == 0) return std::nullopt;
  const at::Tensor flat = values.contiguous();
  if (amax_of_tensor(context_of(flat, nullptr), matrix_of(flat)).finite) return std::nullopt;
  return Finding{"not-finite", {}, {}, "finite numbers", "NaN or infinity"};
}

}  // namespace halftone
