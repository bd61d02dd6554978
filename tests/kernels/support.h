#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/context.h"
#include "tests/kernels/reference.h"

namespace halftone::testing {

struct Matrix {
  DType dtype;
  int64_t rows;
  int64_t cols;
  std::vector<uint8_t> bytes;

  Matrix(DType type, int64_t row_count, int64_t col_count)
      : dtype(type),
        rows(row_count),
        cols(col_count),
        bytes(static_cast<size_t>(row_count * col_count * size_of(type))) {}

  MatrixView view() const { return {bytes.data(), dtype, rows, cols}; }
  int64_t count() const { return rows * cols; }
  double at(int64_t i) const { return reference::load(dtype, bytes.data(), i); }
  void set(int64_t i, double value) { reference::store(dtype, value, bytes.data(), i); }
};

// "f8bf c03e" -> bytes; blanks are for the reader.
inline std::vector<uint8_t> from_hex(std::string_view text) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::vector<uint8_t> bytes;
  int high = -1;
  for (const char c : text) {
    if (c == ' ') continue;
    if (high < 0) {
      high = digit(c);
    } else {
      bytes.push_back(static_cast<uint8_t>(high * 16 + digit(c)));
      high = -1;
    }
  }
  return bytes;
}

template <typename T>
std::string to_hex(const std::vector<T>& values) {
  const char* digits = "0123456789abcdef";
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  std::string text;
  for (const uint8_t byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

inline std::string to_hex(float value) {
  return to_hex(std::vector<float>{value});
}

inline Matrix matrix_of_hex(DType dtype, int64_t rows, int64_t cols, std::string_view hex) {
  Matrix matrix(dtype, rows, cols);
  matrix.bytes = from_hex(hex);
  return matrix;
}

// Every kind of element: normal ones of one magnitude, wide ones, exact ties of the code grids,
// zeros of both signs, subnormals, the largest and smallest, and (if asked) infinities and NaN.
inline Matrix random_matrix(DType dtype, int64_t rows, int64_t cols, uint32_t seed,
                            bool specials = false) {
  Matrix matrix(dtype, rows, cols);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.05f);
  std::uniform_int_distribution<int> any(0, 1 << 20);
  for (int64_t i = 0; i < matrix.count(); ++i) {
    const int kind = any(random) % 64;
    double value = normal(random);
    if (kind == 0) value = 0.0;
    if (kind == 1) value = -0.0;
    if (kind < 8 && kind > 1) value = (any(random) % 8191 - 4095) * 0.0009765625;
    if (kind == 8) value = std::ldexp(any(random) % 255 - 127, any(random) % 40 - 40);
    if (kind == 9) value = std::ldexp(any(random) % 255 - 127, dtype == DType::kF16 ? -24 : -133);
    if (specials && kind == 10) value = std::numeric_limits<double>::infinity();
    if (specials && kind == 11) value = -std::numeric_limits<double>::infinity();
    if (specials && kind == 12) value = std::numeric_limits<double>::quiet_NaN();
    if (specials && kind == 13) value = dtype == DType::kF16 ? 65504.0 : -0x1.fep127;
    matrix.set(i, value);
  }
  return matrix;
}

inline std::vector<DType> element_types() {
  return {DType::kF32, DType::kF16, DType::kBF16};
}

}  // namespace halftone::testing
