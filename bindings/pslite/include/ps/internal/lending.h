// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// How arrays cross over to the library and back, with what keeps them.

#include "ps/internal/customer.h"
#include "ps/sarray.h"

namespace ps {
namespace internal {

template <typename V>
void ReleaseShared(void* owner) {
  delete static_cast<std::shared_ptr<V>*>(owner);
}

template <typename V>
penstock_ps_bytes Lend(const SArray<V>& array) {
  if (array.empty()) return penstock_ps_bytes{nullptr, 0, nullptr, nullptr};
  return penstock_ps_bytes{const_cast<typename std::remove_const<V>::type*>(array.data()),
                           array.size() * sizeof(V), new std::shared_ptr<V>(array.ptr()),
                           &ReleaseShared<V>};
}

// The library's keys have 64 bits.
inline penstock_ps_bytes LendKeys(const SArray<Key>& keys) {
  if (sizeof(Key) == sizeof(uint64_t)) return Lend(keys);
  SArray<uint64_t> wide(keys.size());
  std::copy(keys.begin(), keys.end(), wide.begin());
  return Lend(wide);
}

struct ReleaseBytes {
  void operator()(void*) const {
    if (bytes.release != nullptr) bytes.release(bytes.owner);
  }
  penstock_ps_bytes bytes;
};

// Takes over what keeps the bytes.
template <typename V>
SArray<V> Adopt(const penstock_ps_bytes& bytes) {
  SArray<V> array;
  const std::shared_ptr<void> keeper(bytes.data, ReleaseBytes{bytes});
  array.share(std::shared_ptr<V>(keeper, static_cast<V*>(bytes.data)),
              static_cast<size_t>(bytes.size / sizeof(V)));
  return array;
}

inline SArray<Key> AdoptKeys(const penstock_ps_bytes& bytes) {
  if (sizeof(Key) == sizeof(uint64_t)) return Adopt<Key>(bytes);
  const SArray<uint64_t> wide = Adopt<uint64_t>(bytes);
  SArray<Key> keys(wide.size());
  for (size_t i = 0; i < wide.size(); ++i) keys[i] = static_cast<Key>(wide[i]);
  return keys;
}

// A request under way: where its answer goes and who is told.
class Asked {
 public:
  explicit Asked(const std::function<void()>& callback) : callback_(callback) {}
  virtual ~Asked() {}
  virtual void* PlaceVals(uint64_t, penstock_ps_bytes*) { return nullptr; }
  virtual std::int32_t* PlaceLens(uint64_t) { return nullptr; }

  static void* PlaceVals(void* self, uint64_t size, penstock_ps_bytes* adopt) {
    return static_cast<Asked*>(self)->PlaceVals(size, adopt);
  }
  static std::int32_t* PlaceLens(void* self, uint64_t count) {
    return static_cast<Asked*>(self)->PlaceLens(count);
  }
  static void Done(void* self, int answered) {
    const std::unique_ptr<Asked> asked(static_cast<Asked*>(self));
    if (answered != 0 && asked->callback_) asked->callback_();
  }

 private:
  const std::function<void()> callback_;
};

template <typename V>
bool TakeOver(SArray<V>* to, const penstock_ps_bytes& bytes) {
  if (bytes.size == 0) return false;
  const SArray<V> landed = Adopt<V>(bytes);
  to->share(landed.ptr(), landed.size());
  return true;
}
template <typename V>
bool TakeOver(std::vector<V>*, const penstock_ps_bytes&) {
  return false;
}

// Vals and Lens: SArray or std::vector, of the caller's.
template <typename Vals, typename Lens>
class AskedForValues : public Asked {
 public:
  AskedForValues(Vals* vals, Lens* lens, const std::function<void()>& callback)
      : Asked(callback), vals_(vals), lens_(lens) {}

  void* PlaceVals(uint64_t size, penstock_ps_bytes* adopt) override {
    const size_t one = sizeof(*vals_->data());
    if (vals_->empty()) {
      if (TakeOver(vals_, *adopt)) return nullptr;
      vals_->resize(static_cast<size_t>(size) / one);
    }
    return vals_->data();
  }
  std::int32_t* PlaceLens(uint64_t count) override {
    if (lens_->empty()) lens_->resize(static_cast<size_t>(count));
    return lens_->size() == count ? lens_->data() : nullptr;
  }

 private:
  Vals* const vals_;
  Lens* const lens_;
};

}  // namespace internal
}  // namespace ps
