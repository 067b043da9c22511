// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/c/error.h"

#include "bindings/c/penstock.h"

namespace penstock::c {
namespace {

struct LastError {
  std::string sentence;
  std::string peer;
};
thread_local LastError last_error;

// The two lists are one.
static_assert(PENSTOCK_OK == static_cast<int>(Code::kOk));
static_assert(PENSTOCK_INVALID_ARGUMENT == static_cast<int>(Code::kInvalidArgument));
static_assert(PENSTOCK_TIMEOUT == static_cast<int>(Code::kTimeout));
static_assert(PENSTOCK_ACCESS == static_cast<int>(Code::kAccess));
static_assert(PENSTOCK_SYSTEM == static_cast<int>(Code::kSystem));
static_assert(PENSTOCK_NOT_FINITE == static_cast<int>(Code::kNotFinite));

}  // namespace

int report(const Status& status) {
  if (status.ok()) return PENSTOCK_OK;
  const int code = static_cast<int>(status.code());
  try {
    last_error = {status.to_string(), status.peer()};
  } catch (const std::exception&) {  // no memory even for the sentence; the number says enough
    last_error.sentence.clear();
    last_error.peer.clear();
  }
  return code;
}

}  // namespace penstock::c

extern "C" {

uint32_t penstock_version(void) { return PENSTOCK_VERSION; }

const char* penstock_status_name(int status) {
  if (status < PENSTOCK_OK || status > PENSTOCK_NOT_FINITE) return "unknown status";
  return penstock::code_name(static_cast<penstock::Code>(status)).data();
}

const char* penstock_last_error(void) { return penstock::c::last_error.sentence.c_str(); }

const char* penstock_last_error_peer(void) { return penstock::c::last_error.peer.c_str(); }
}
