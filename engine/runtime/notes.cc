// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/notes.h"

#include <fmt/format.h>

namespace penstock {

Status check_note(const Note& note) {
  if (note.body.size() <= kMaxNoteBytes) return {};
  return {Code::kInvalidArgument,
          fmt::format("a note of {} bytes to {} {}: at most {}", note.body.size(),
                      role_name(note.role), note.rank, kMaxNoteBytes)};
}

}  // namespace penstock
