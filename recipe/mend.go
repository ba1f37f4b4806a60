package recipe

// Mend makes settings that were meant for another model fit this one: as long as they are refused, it applies the first of the repairs
// that changes the reason, in as many rounds as there are repairs, as one may bring the next mistake to light. mended is told of each.
func Mend[T any](settings T, refused func(T) error, repairs []func(*T), mended func(repair int, why error)) T {
	for range repairs {
		why := refused(settings)
		if why == nil {
			break
		}
		for i, repair := range repairs {
			changed := settings
			repair(&changed)
			if still := refused(changed); still == nil || still.Error() != why.Error() {
				mended(i, why)
				settings = changed
				break
			}
		}
	}
	return settings
}
