/* SPDX-FileCopyrightText: The Penstock authors */
/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

// What libpenstock_cuda.so gives: a table of C functions around the CUDA runtime and the kernels of
// kernels/cuda, so that the library itself links nothing of CUDA. The two are built from one tree;
// the first six fields say whether they were. Results are the runtime's: 0 is success.

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { kPenstockCudaVersion = 3 };  // of this table: one more with every change of it

struct PenstockCudaStream;

struct PenstockCudaTable {
  uint32_t version;
  uint32_t step_bytes;   // of a SliceStep
  uint32_t pass_bytes;   // of a SlicePass
  uint32_t rules;        // UpdateRules that have kernels
  uint32_t passes;       // Passes that have
  uint32_t table_bytes;  // of this

  const char* (*error_text)(int error);
  int (*device_count)(int* count);
  int (*device_name)(int device, char* name, size_t name_bytes, char* pci, size_t pci_bytes);

  // Each makes `device` current on the calling thread first.
  int (*allocate)(int device, size_t bytes, void** memory);
  int (*release)(int device, void* memory);
  int (*pin)(int device, void* host, size_t bytes);
  int (*unpin)(int device, void* host);
  int (*create_stream)(int device, uint32_t marks, struct PenstockCudaStream** stream);
  void (*destroy_stream)(struct PenstockCudaStream* stream);  // waits for its work

  int (*copy_in)(struct PenstockCudaStream* stream, void* device, const void* host, size_t bytes);
  int (*copy_out)(struct PenstockCudaStream* stream, void* host, const void* device, size_t bytes);
  int (*copy)(struct PenstockCudaStream* stream, void* device, const void* from, size_t bytes);
  int (*fill)(struct PenstockCudaStream* stream, float* device, float value, uint64_t count);
  int (*step)(struct PenstockCudaStream* stream, uint8_t rule, uint8_t gradients,
              const void* slices, uint32_t count, uint32_t blocks);
  int (*pass)(struct PenstockCudaStream* stream, uint8_t pass, uint8_t gradients,
              const void* slices, uint32_t count, uint32_t blocks);
  int (*mark)(struct PenstockCudaStream* stream, uint32_t which);
  int (*reached)(struct PenstockCudaStream* stream, uint32_t which, int* yes);
};

// The library's only symbol.
typedef const struct PenstockCudaTable* (*PenstockCudaEntry)(void);
#define PENSTOCK_CUDA_ENTRY "penstock_cuda_table"

#ifdef __cplusplus
}
#endif
