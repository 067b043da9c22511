// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "transport/api/device.h"

namespace penstock::automatic {

// The same bytes registered with several providers, described once.
class AutoRegion final : public MemoryRegion {
 public:
  // `parts`: not empty; the first owns the bytes if any does.
  explicit AutoRegion(std::vector<std::unique_ptr<MemoryRegion>> parts) : parts_(std::move(parts)) {
    description_ = parts_.front()->describe();
    for (std::size_t i = 1; i < parts_.size(); ++i) merge(parts_[i]->describe());
  }
  ~AutoRegion() override {
    while (!parts_.empty()) parts_.pop_back();  // the owner of the bytes last
  }
  AutoRegion(const AutoRegion&) = delete;
  AutoRegion& operator=(const AutoRegion&) = delete;

  std::span<std::byte> bytes() const override { return parts_.front()->bytes(); }
  const RemoteRegion& describe() const override { return description_; }
  MemoryKind kind() const override { return parts_.front()->kind(); }
  Status flush() const override {
    for (const auto& part : parts_) PENSTOCK_RETURN_IF_ERROR(part->flush());
    return {};
  }
  const MemoryRegion* part(ProviderKind kind) const override {
    for (const auto& part : parts_)
      if (const MemoryRegion* found = part->part(kind)) return found;
    return nullptr;
  }

 private:
  // Providers keep their keys in places of their own (key_slot()); only verbs has a base and rails.
  void merge(const RemoteRegion& other) {
    description_.providers |= other.providers;
    description_.maps |= other.maps;
    for (std::size_t i = 0; i < description_.key.size(); ++i)
      if (other.key[i] != 0) description_.key[i] = other.key[i];
    if (!other.reachable_by(ProviderKind::kVerbs)) return;
    description_.base = other.base;
    description_.rails = other.rails;
  }

  std::vector<std::unique_ptr<MemoryRegion>> parts_;
  RemoteRegion description_;
};

}  // namespace penstock::automatic
