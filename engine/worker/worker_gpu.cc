// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Buffers that lie in a GPU's memory.

#include <fmt/format.h>

#include "engine/worker/worker.h"

namespace penstock {

// GPU memory goes straight to the network card and back; nothing here can touch it.
Status Worker::check_lendable(const Declaration& declaration, const Tensor& tensor) const {
  const bool gradients = regions_.kind_of(tensor.gradients.data()) == MemoryKind::kCuda;
  const bool parameters = regions_.kind_of(tensor.parameters.data()) == MemoryKind::kCuda;
  if (!gradients && !parameters) return {};
  const auto refuse = [&](std::string_view what) {
    return Status(Code::kUnsupported, fmt::format("{}: {} in GPU memory {}", describe(declaration),
                                                  gradients ? "gradients" : "parameters", what))
        .with_hint("lend pinned host memory and copy on the GPU's stream");
  };
  if (device_.kind() != ProviderKind::kVerbs)
    return refuse(fmt::format("cannot go by {}, only by verbs", provider_name(device_.kind())));
  if (gradients && declaration.spec.encoded())
    return refuse("cannot be encoded: codecs run on the host");
  if (gradients && declaration.spec.not_finite != NotFinite::kAccept)
    return refuse("cannot be searched for NaN and infinity: only not_finite accept");
  return {};
}

// What a card wrote is visible to kernels from now on.
Status Worker::flush_parameters(const InflightKey& key) {
  const MemoryRegion* const region = key.parameters.region.get();
  return region != nullptr && region->kind() == MemoryKind::kCuda ? region->flush() : Status();
}

}  // namespace penstock
