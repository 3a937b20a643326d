package load

import (
	"math/rand/v2"
	"sort"
	"strconv"
	"strings"
	"time"
)

// shopTags are what a shop counts, the most frequent first.
var shopTags = strings.Fields(`
espresso cappuccino flat_white latte croissant americano filter_coffee oat_milk bagel green_tea muffin sourdough cookie
orange_juice sandwich cheesecake brownie iced_latte mocha chai still_water carrot_cake scone hot_chocolate matcha soup
quiche lemonade cinnamon_roll cold_brew toast granola banana_bread sparkling wrap earl_grey cortado macchiato salad panini
pretzel decaf ginger_tea donut pain_chocolat smoothie yoghurt avocado_toast danish focaccia ristretto almond_milk apple_pie
tomato_soup egg_roll fruit_salad black_tea kombucha rye_bread beans_small shortbread lungo porridge peppermint_tea baguette
omelette iced_tea waffle soy_milk beans_large gift_card hummus pumpkin_soup rooibos affogato tiramisu pancakes reusable_cup
eclair macaron ciabatta jasmine_tea paper_filter lemon_tart oolong babka profiterole chai_latte honey_cake marzipan
apple_juice madeleine beetroot_cake linzer_torte white_tea strudel grinder french_press chestnut_cake milk_jug
kettle dripper tote_bag tea_strainer cake_stand syphon moka_pot postcard apron mug thermos scale voucher`)

// shopNames begin the ids of the people who buy in a shop.
var shopNames = strings.Fields(`
ada alan barbara edsger grace donald margaret dennis radia ken frances john katherine niklaus hedy claude karen tony joan
leslie shafi bjarne adele robin sophie linus jean peter mary vint lynn tim anita ivan evelyn guido susan rob elizabeth brian`)

// shopDay is how busy the hours of a shop's day are, from midnight on.
var shopDay = [24]float64{1, 1, 0, 0, 1, 3, 10, 28, 40, 30, 22, 24, 36, 34, 22, 20, 24, 30, 22, 12, 8, 5, 3, 2}

// shopPart is of how many increments one names the person who buys.
const shopPart = 3

// shopPeople returns the ids of n people.
func shopPeople(n int) []string {
	people := make([]string, n)
	for i := range people {
		people[i] = shopNames[i%len(shopNames)]
		if round := i / len(shopNames); round > 0 {
			people[i] += "." + strconv.Itoa(round+1)
		}
	}
	return people
}

// zipf draws ranks from 0 on, each with a probability of 1/(rank+1) of that of rank 0. It is safe for concurrent use.
type zipf struct{ sums []float64 }

func newZipf(n int) *zipf {
	z := &zipf{make([]float64, n)}
	sum := 0.0
	for i := range z.sums {
		sum += 1 / float64(i+1)
		z.sums[i] = sum
	}
	return z
}

func (z *zipf) draw() int {
	at := rand.Float64() * z.sums[len(z.sums)-1] //nolint:gosec // not a secret
	return min(sort.SearchFloat64s(z.sums, at), len(z.sums)-1)
}

// day returns when, from the beginning of days of a length, a share of one day's increments is due.
func day(length time.Duration, share float64) time.Duration {
	whole := 0.0
	for _, busy := range shopDay {
		whole += busy
	}
	days := int(share)
	left := (share - float64(days)) * whole
	at := float64(days) * float64(len(shopDay))
	for _, busy := range shopDay {
		if left < busy {
			at += left / busy
			break
		}
		left -= busy
		at++
	}
	return time.Duration(at / float64(len(shopDay)) * float64(length))
}

// contributing is a source whose increments name contributors.
type contributing struct {
	source
	people []string
	zipf   *zipf // nil: all are as likely
	part   int   // one of so many increments names a contributor
}

func (c *contributing) next() (entry, error) {
	e, err := c.source.next()
	if err != nil || c.part > 1 && rand.IntN(c.part) > 0 { //nolint:gosec // not a secret
		return e, err
	}
	if c.zipf != nil {
		e.contributor = c.people[c.zipf.draw()]
	} else {
		e.contributor = c.people[rand.IntN(len(c.people))] //nolint:gosec // not a secret
	}
	return e, nil
}
