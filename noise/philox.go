package noise

// philox4x32 is Philox-4x32-10 of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (2011):
// ten rounds over a 128-bit counter with a 64-bit key.
func philox4x32(ctr [4]uint32, key [2]uint32) [4]uint32 {
	for range 10 {
		p0 := uint64(ctr[0]) * 0xd2511f53
		p1 := uint64(ctr[2]) * 0xcd9e8d57
		ctr = [4]uint32{
			uint32(p1>>32) ^ ctr[1] ^ key[0], uint32(p1),
			uint32(p0>>32) ^ ctr[3] ^ key[1], uint32(p0),
		}
		key[0] += 0x9e3779b9 // golden ratio
		key[1] += 0xbb67ae85 // √3 - 1
	}
	return ctr
}
