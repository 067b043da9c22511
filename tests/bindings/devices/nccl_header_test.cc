// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// What nccl_library.h declares for itself, against the nccl.h of this host. Compiles or does not.

#include <nccl.h>

#include <cstddef>
#include <type_traits>

#include "bindings/devices/nccl_library.h"

namespace penstock {

static_assert(sizeof(NcclUniqueId) == sizeof(ncclUniqueId));
static_assert(offsetof(NcclConfig, size) == offsetof(ncclConfig_t, size));
static_assert(offsetof(NcclConfig, magic) == offsetof(ncclConfig_t, magic));
static_assert(offsetof(NcclConfig, version) == offsetof(ncclConfig_t, version));
static_assert(offsetof(NcclConfig, blocking) == offsetof(ncclConfig_t, blocking));
static_assert(NCCL_VERSION(2, 14, 0) == kOldestNccl);
static_assert(kNcclSuccess == ncclSuccess && kNcclInvalidArgument == ncclInvalidArgument);
static_assert(kNcclInvalidUsage == ncclInvalidUsage && kNcclRemoteError == ncclRemoteError);
static_assert(kNcclInProgress == ncclInProgress && kNcclSum == ncclSum);
static_assert(kNcclFloat32 == ncclFloat32 && kNcclFloat16 == ncclFloat16);
static_assert(kNcclBfloat16 == ncclBfloat16);

// Each argument there passes as ours does: pointers as pointers, enumerations as int.
template <class Theirs, class Ours>
constexpr bool kPassesAs =
    std::is_pointer_v<Theirs> ? std::is_pointer_v<Ours>
    : std::is_enum_v<Theirs>
        ? std::is_same_v<Ours, int>
        : sizeof(Theirs) == sizeof(Ours) && std::is_class_v<Theirs> == std::is_class_v<Ours>;
template <class Theirs, class Ours>
struct Same : std::false_type {};
template <class TheirResult, class... Theirs, class OurResult, class... Ours>
requires(sizeof...(Theirs) ==
         sizeof...(Ours)) struct Same<TheirResult (*)(Theirs...), OurResult (*)(Ours...)>
    : std::bool_constant<kPassesAs<TheirResult, OurResult> && (kPassesAs<Theirs, Ours> && ...)> {
};
#define PENSTOCK_SAME(result, name, arguments) \
  static_assert(Same<decltype(&::name), decltype(NcclLibrary::name)>::value);
PENSTOCK_NCCL_FUNCTIONS(PENSTOCK_SAME)
#undef PENSTOCK_SAME

}  // namespace penstock
