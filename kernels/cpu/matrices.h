// Products of 2 × 2 matrices, as arm64 has them with BF16 and I8MM: two rows of 8 bytes by two columns of 8 bytes. A
// vector of sums is {row 0 · column 0, row 0 · column 1, row 1 · column 0, row 1 · column 1}.
#ifdef HALF_NEON
INLINE vec mmla(vec acc, vecu rows, vecu columns) { return (vec)vbfmmlaq_f32((float32x4_t)acc, (bfloat16x8_t)rows, (bfloat16x8_t)columns); }
INLINE vec mmla8(vec acc, vecu rows, vecu columns) { return (vec)vusmmlaq_s32((int32x4_t)acc, (uint8x16_t)rows, (int8x16_t)columns); }
#else
// The same in plain C: two rounds, each with 4 bytes of a row and a column.
INLINE vec mmla(vec acc, vecu rows, vecu columns) {
	acc = dot2(acc, SHUFFLE(rows, rows, 0, 0, 2, 2), SHUFFLE(columns, columns, 0, 2, 0, 2));
	return dot2(acc, SHUFFLE(rows, rows, 1, 1, 3, 3), SHUFFLE(columns, columns, 1, 3, 1, 3));
}
INLINE vec mmla8(vec acc, vecu rows, vecu columns) {
	veci sum = dot4((veci)acc, SHUFFLE(rows, rows, 0, 0, 2, 2), SHUFFLE(columns, columns, 0, 2, 0, 2));
	return (vec)dot4(sum, SHUFFLE(rows, rows, 1, 1, 3, 3), SHUFFLE(columns, columns, 1, 3, 1, 3));
}
#endif

// two_rows puts 8 bytes of each side by side.
INLINE vecu two_rows(const elem *even, const elem *odd) {
	uint64_t x, y;
	__builtin_memcpy(&x, even, 8);
	__builtin_memcpy(&y, odd, 8);
	return (vecu)(uint64_t __attribute__((vector_size(16)))){x, y};
}
