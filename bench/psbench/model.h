// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The layer shapes of real models, from models.json, which is compiled in.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "transport/base/status.h"

namespace penstock::psbench {

struct ModelTensor {
  std::string name;
  std::vector<std::uint64_t> shape;
  std::uint64_t elements = 0;  // product of the shape
};

struct Model {
  std::string name;
  std::string source;                // the paper and the implementation the names are from
  std::vector<ModelTensor> tensors;  // in forward order, never empty
  std::uint64_t elements() const;
};

// The named model. kNotFound with the list of known names.
Result<Model> load_model(std::string_view name);

std::vector<std::string> known_models();

// A model of one tensor per name, for sweeps over sizes: `bytes` / `element_bytes` elements, at
// least one; its name is the size as format_size() writes it.
Model single_tensor_model(std::uint64_t bytes, std::uint64_t element_bytes);

}  // namespace penstock::psbench
